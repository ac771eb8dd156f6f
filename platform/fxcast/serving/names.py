"""Under which names Serve knows fxcast."""

APPLICATION = "fxcast"
API = "ForecastApi"
DEPLOYMENT = "LDM4TSInferenceService"
