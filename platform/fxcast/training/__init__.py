"""The torch loops; they know nothing of Ray and report through a callback."""
