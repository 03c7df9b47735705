"""The job at a site of NVFlare, with its Client API; sent to the site as the job's training script."""

import argparse

import nvflare.client as flare
from work import add_one


def main() -> None:
    """Work until the job has ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--notes", required=True)
    notes = parser.parse_args().notes
    flare.init()
    site = flare.get_site_name()
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        params = {name: add_one(array, notes, site) for name, array in model.params.items()}
        flare.send(flare.FLModel(params=params, meta={"NUM_STEPS_CURRENT_ROUND": 1}))


if __name__ == "__main__":
    main()
