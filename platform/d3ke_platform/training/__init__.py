"""Training of both networks: settings, data, the loop, Ray Train around it, and the bundle."""
