"""The page where people look: Plotly Dash on FastAPI, served by Ray Serve beside the API."""
