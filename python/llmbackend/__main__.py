"""`python -m llmbackend` is the `llmbackend` command."""

from .cli import main

raise SystemExit(main())
