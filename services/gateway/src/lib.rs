//! Slots: source topics -> verify -> decide -> project -> department topics and audit, in one transaction.
