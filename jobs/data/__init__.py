"""Files that items and recordings come from: facts, XCOPA, corpora, model folders."""
