"""One configuration from three places: command line over YAML files over dataclass defaults."""

from sift_trainer.reproduction.configuration.parsing import (
    Config,
    ConfigError,
    config_errors,
    load_yaml,
    parse_config,
)

__all__ = ["Config", "ConfigError", "config_errors", "load_yaml", "parse_config"]
