//! All metrics of the HTTP services, named once. No label holds anything about a person.

/// A file of the audit log, or the list of logs, was handed out.
pub fn log_read(department: &str, role: &str, class: &'static str) {
    let (department, role) = (department.to_owned(), role.to_owned());
    metrics::counter!(
        "mz_console_log_reads_total",
        "department" => department, "role" => role, "class" => class
    )
    .increment(1);
}
