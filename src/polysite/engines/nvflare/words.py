"""Why the server turns a hospital away."""

TAKEN = "another `polysite join` of this name is connected to the server"
NO_SITE = "the run that is served there has no site of this name"
