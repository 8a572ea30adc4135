"""The demonstration: real images that a package ships, virtual patients, two plans, a policy."""
