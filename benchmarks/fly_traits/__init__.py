"""Traits of fruit flies, on generated pictures: where the flies are, and three traits of each."""
