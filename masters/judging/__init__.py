"""Who is right: rules and an LLM judge behind one interface; answer matching is also used by evaluate."""
