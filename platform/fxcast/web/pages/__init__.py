"""The pages of the site, in the order of its navigation."""

from __future__ import annotations

from fxcast.web.page import Page
from fxcast.web.pages.decisions import DECISIONS
from fxcast.web.pages.market import MARKET
from fxcast.web.pages.models import MODELS
from fxcast.web.pages.risk import RISK
from fxcast.web.pages.runs import RUNS

PAGES: tuple[Page, ...] = (MARKET, DECISIONS, RISK, MODELS, RUNS)
