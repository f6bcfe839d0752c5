"""The assignment problem of a figure, for which nothing is compiled.

`matching` solves whole batches, on the devices.
"""

import numpy as np


def assign(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Pairs rows and columns at the least total cost.

  Args:
    costs: [N, M].

  Returns:
    A pair (rows, columns), each [min(N, M)] integers, rows in their order.

  Example:
    >>> import numpy as np
    >>> from slot_attention_jax.evaluation import assignment
    >>> rows, columns = assignment.assign(np.array([[4.0, 1.0], [2.0, 3.0]]))
    >>> rows.tolist(), columns.tolist()
    ([0, 1], [1, 0])

  References:
    Kuhn, `The Hungarian method for the assignment problem
    <https://doi.org/10.1002/nav.3800020109>`_, 1955, by shortest augmenting
    paths.
  """
  if costs.shape[0] > costs.shape[1]:
    columns, rows = assign(costs.T)
    order = np.argsort(rows)
    return rows[order], columns[order]
  n, m = costs.shape
  costs = np.asarray(costs, np.float64)
  of_row, of_column = np.zeros(n), np.zeros(m + 1)  # Dual variables.
  row_of = np.full(m + 1, -1)  # The last column is where paths begin.
  for row in range(n):
    row_of[m] = row
    distance, before = np.full(m, np.inf), np.full(m, m)
    done = np.zeros(m + 1, bool)
    column = m
    while row_of[column] >= 0:
      done[column] = True
      at = row_of[column]
      slack = costs[at] - of_row[at] - of_column[:m]
      closer = ~done[:m] & (slack < distance)
      distance[closer], before[closer] = slack[closer], column
      reachable = np.where(done[:m], np.inf, distance)
      nearest = int(reachable.argmin())
      step = reachable[nearest]
      of_row[row_of[done]] += step
      of_column[done] -= step
      distance[~done[:m]] -= step
      column = nearest
    while column != m:
      row_of[column] = row_of[before[column]]
      column = before[column]
  columns = np.flatnonzero(row_of[:m] >= 0)
  rows = row_of[columns]
  order = np.argsort(rows)
  return rows[order], columns[order]
