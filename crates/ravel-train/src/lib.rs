//! Training: recipes, losses, data readers, optimizers, checkpoints that survive a kill, exact resume.
