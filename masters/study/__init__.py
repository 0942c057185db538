"""Sets of recipes x seeds, the stages that their runs share, and the table of what came out."""
