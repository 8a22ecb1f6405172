"""`python -m epa_orchestrator`: the same as the command epa-orchestrator."""

import os

# Pydantic looks through all installed distributions for plugins otherwise, which nearly doubles its part of start-up.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")

from epa_orchestrator.cli import main

if __name__ == "__main__":
    main()
