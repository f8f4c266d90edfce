"""Metrics of whole corpora: BLEU and chrF++."""
