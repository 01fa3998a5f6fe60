"""Who calls: tokens, signed tokens, certificates, and how much each caller may ask for."""
