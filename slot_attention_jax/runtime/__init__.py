"""What any program needs: the mesh, processes, files, progress.

Nothing here knows slots, models, data or configs.
"""
