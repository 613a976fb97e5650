"""Features of a program of ours by Roboflow's reid: roboflow_features.py MODEL.pt2 FRAME BOXES OUT"""

import sys

import numpy as np
import supervision
import torch
from reid import ReIDModel
from reid.preprocessing import ReIDPreprocessing

weights, frame, boxes, out = sys.argv[1:]
network = torch.export.load(weights).module()
network.eval = lambda: network  # a program is in evaluation mode, and says so by an error
pixels = ReIDPreprocessing(input_size=(256, 128), mean=(0, 0, 0), std=(1, 1, 1))
model = ReIDModel(network, torch.device("cpu"), pixels)
np.save(out, model.extract_embeddings(supervision.Detections(xyxy=np.load(boxes)), np.load(frame)))
