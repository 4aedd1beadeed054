"""Pieces shared by the rooms: checkpoints, handlers, figures, statistics, errors."""
