"""`python -m epa_orchestrator`: the same as the command epa-orchestrator."""

import gc
import os

# Pydantic looks through all installed distributions for plugins otherwise, which nearly doubles its part of start-up.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")

# What imports leave behind stays: looking through it for garbage meanwhile, and ever after, is in vain.
gc.disable()

from epa_orchestrator.cli.commands import main  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    main()
