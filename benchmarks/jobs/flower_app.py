"""The job as an app of Flower, with its message interface: `server` and `client`."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from work import add_one

server = ServerApp()
client = ClientApp()


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """Average all sites in every round; nothing is evaluated."""
    config = context.run_config
    n_sites = int(config["n-sites"])
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=n_sites, min_available_nodes=n_sites)
    zeros = ArrayRecord([np.zeros(int(config["n-values"]), dtype=np.float32)])
    strategy.start(grid, zeros, num_rounds=int(config["rounds"]))


@client.train()
def train(message: Message, context: Context) -> Message:
    """Add 1."""
    site = f"site-{int(context.node_config['partition-id']) + 1}"
    (array,) = message.content["arrays"].to_numpy_ndarrays(keep_input=False)
    array = add_one(array, str(context.run_config["notes"]), site)
    content = {"arrays": ArrayRecord([array]), "metrics": MetricRecord({"num-examples": 1})}
    return Message(content=RecordDict(content), reply_to=message)
