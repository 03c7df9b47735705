"""Trained models applied to whole volumes: predictions as BIDS derivatives, and their scores."""

from polysite.predictions.evaluating import evaluate
from polysite.predictions.predicting import predict

__all__ = ["evaluate", "predict"]
