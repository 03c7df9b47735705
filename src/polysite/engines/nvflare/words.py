"""Words that NVFlare's side and ours share."""

TASK = "polysite"
CONTENT = "payload"
ENDED = "job-ended"
"""In a frame's place for a site: the job of this messenger has ended."""
STEWARD = "steward@polysite.org"
"""The only user of a consortium: the server itself, which submits its runs."""
