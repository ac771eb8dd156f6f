"""Under which names Serve knows fxcast."""

APPLICATION = "fxcast"
DEPLOYMENT = "LDM4TSInferenceService"
