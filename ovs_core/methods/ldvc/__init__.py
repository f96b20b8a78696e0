"""LDVC (arXiv 2403.08426) and its baseline ZegCLIP (2212.03588): one tower with prompts, one decoder."""
