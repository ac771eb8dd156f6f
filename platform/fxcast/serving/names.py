"""Under which names Serve knows fxcast, and HTTP a request."""

APPLICATION = "fxcast"
API = "ForecastApi"
DEPLOYMENT = "LDM4TSInferenceService"
REQUEST_ID_HEADER = "X-Request-ID"
