"""One level for every slot, and the stages of training."""
