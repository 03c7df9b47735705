"""Why one end turns the other away."""

TAKEN = "another `polysite join` of this name is connected to the server"
NO_SITE = "the run that is served there has no site of this name"
OTHER = "another version of Polysite is there; the same one is needed at both ends"
