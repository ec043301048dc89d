import Policy
import Testing

@Suite struct SettingsTests {
    @Test(
        arguments: [
            ("content_filter", PolicySettings.KindName.contentFilter),
            ("content-filter", .contentFilter), ("pii_detector", .piiDetector),
            ("audit-logger", .auditLogger), ("audit_logger", .auditLogger), ("auditlogger", nil),
            ("", nil),
        ] as [(String, PolicySettings.KindName?)])
    func namesOfKinds(_ text: String, _ kind: PolicySettings.KindName?) {
        #expect(PolicySettings.KindName(folding: text) == kind)
    }
}
