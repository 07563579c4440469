"""`python -m regicomp.evaluate`: measure a trained codec on any test sets."""

from __future__ import annotations

from pathlib import Path

import hydra
from omegaconf import DictConfig

from regicomp import config, files

config.register_resolvers()


@hydra.main(version_base="1.3", config_path=str(config.conf_dir()), config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    with files.told_in_one_line():
        config.check_evaluate(cfg)
        config.quiet_libraries()
        from regicomp import evaluation, export, measuring
        from regicomp.data import testsets

        measured = testsets.find(cfg.testsets, cfg.data.root, cfg.data.test_dirs)
        loaded = export.load_codec(Path(cfg.checkpoint))
        source = export.load_source(Path(cfg.source_checkpoint)).network if cfg.source_checkpoint else None
        measuring.measure(config.run_dir(), evaluation.Codec(loaded), source, measured, loaded.run, {})


if __name__ == "__main__":
    main()
