"""Two stages: propose masks, then show CLIP a picture of each; what one-pass methods are measured against."""
