# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a test may wait: VIREO_SLOW is a factor on all limits, for hosts that are slow or have other work."""
import os

SLOW = float(os.environ.get("VIREO_SLOW", "1"))
