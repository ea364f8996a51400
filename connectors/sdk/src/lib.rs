//! What an integrator writes against: a Source, its checkpoint, publishing sealed events exactly once.
