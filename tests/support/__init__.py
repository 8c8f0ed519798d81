"""What several tests build on: small models, projects, made-up results, oracles."""
