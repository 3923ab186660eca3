r"""Leapfrog: a discrete trajectory of Hamilton's equations.

For $H(x, u) = -\log p(x) + \tfrac12 |u|^2$ with whitened momentum $u$ and force $f = M^{-1/2} \nabla \log p$, one
step of time $h$ is

    $$ u \leftarrow u + \tfrac h2 f(x), \quad x \leftarrow x + h\, M^{-1/2} u, \quad u \leftarrow u + \tfrac h2 f(x) $$

Reversible (negate $u$ and it runs back), volume preserving (each line is a shear), and wrong in $H$ by $O(h^2)$. Half
steps that meet are made as one, so n steps cost n gradients.

Reference: Neal, MCMC using Hamiltonian dynamics, Handbook of Markov chain Monte Carlo, 2011, section 5.2.
"""

from torch import Tensor

from vaebm.sampling.kernel import ChainState, LogDensity, evaluate, plus


def leapfrog(
    state: ChainState,
    momentum: Tensor,
    target: LogDensity,
    step_size: float | Tensor,
    inverse_mass: float | Tensor,
    count: int,
) -> tuple[ChainState, Tensor]:
    """The end of `count` steps from `state` with momentum u (chain, dim), and the momentum there.

    The step size h is a number, or a tensor that broadcasts to (chain, 1); `inverse_mass` is the diagonal of M^-1.
    """
    time = step_size * inverse_mass**0.5
    position, log_density, score = state.position, state.log_density, state.score
    momentum = plus(momentum, time / 2, score)
    for done in range(1, count + 1):
        position = plus(position, time, momentum)
        log_density, score = evaluate(target, position)
        momentum = plus(momentum, time if done < count else time / 2, score)
    return ChainState(position, log_density, score), momentum
