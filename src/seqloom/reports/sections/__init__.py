"""The sections of a comparison's report: what each says and draws."""
