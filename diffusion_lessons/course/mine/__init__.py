"""`diffusion-lessons mine`: a student's own diffusion system, one file that runs with torch alone.

`collecting` finds the answers that pass in a folder of notebooks, `pieces` cuts each out with what it needs,
`ours` has our solutions for what is missing, `assembly` puts all into one module (`names` keeps names apart,
`glue` holds what stands around them), `trying` checks every piece in it, `running` trains it.
"""
