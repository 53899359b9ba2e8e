"""The runs of a configuration: trained in one way, swept over a grid."""
