"""The tables and figures of Wald et al. 2023 from the finished runs of a sweep."""
