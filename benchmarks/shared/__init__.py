"""What the folders of the tasks share: downloads, kept features, random changes of pictures."""
