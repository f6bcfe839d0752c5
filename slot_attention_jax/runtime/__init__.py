"""What any program needs: the mesh, processes, files, progress, threads.

Nothing here knows slots, models, data or configs.
"""
