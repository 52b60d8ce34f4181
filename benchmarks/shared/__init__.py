"""What the folders of the tasks share: archives, sounds, pictures, splits, downloads, and limits on all of them."""
