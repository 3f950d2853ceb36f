"""The deployer: brings versions up on Ray Serve, proves them, and sets the routes."""
