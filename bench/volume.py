"""A year of a large installation, and how long its pages take.

python -m bench.volume --database sqlite:////tmp/volume/db.sqlite3 --pipelines 2000 --runs 300000 --log 5000000

migrates an empty database and fills it.
"""
