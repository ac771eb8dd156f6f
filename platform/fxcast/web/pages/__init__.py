"""The pages of the site, in the order of its navigation."""

from __future__ import annotations

from fxcast.web.page import Page
from fxcast.web.pages.decisions import DECISIONS
from fxcast.web.pages.market import MARKET
from fxcast.web.pages.models import MODELS
from fxcast.web.pages.risk import RISK
from fxcast.web.pages.runs import RUNS
from fxcast.web.pages.settings import SETTINGS
from fxcast.web.pages.vision import VISION

PAGES: tuple[Page, ...] = (MARKET, VISION, DECISIONS, RISK, MODELS, RUNS, SETTINGS)
