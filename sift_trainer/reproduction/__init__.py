"""The paper's experiments: corpus, images, BERT, ResNet, runs, reports, bounds."""
