import HTTP
public import Providers

/// How the head of a copy that asks a model differs from what the primary got. One that does not is
/// `none`, and its head stays as `Sanitizer` says for all.
public struct CopyRewrite: BitwiseCopyable, Sendable, Equatable {
    /// What the request asks for, as the client put it; nil where it asks no model, or the shadow
    /// is no LLM provider's.
    public var inference: Inference?
    /// What the primary is that got the request.
    public var primary = CopyPrimary.plain
    /// It is sent in the other API: to another path, without the query and what is this API's own.
    public var isTranslated = false
    /// Its body is not the one that came: what describes that one stays behind.
    public var isEdited = false

    /// A copy that is sent as it is.
    public static let none = CopyRewrite()

    /// Nothing is changed.
    public init() {}

    /// What the shadow is asked.
    var asked: Inference? { isTranslated ? inference?.counterpart : inference }

    /// Whether a field line of the request stays behind, besides those that stay behind for all.
    func drops(_ name: UnsafeRawBufferPointer, hasOwnKey: Bool) -> Bool {
        guard inference != nil else { return false }
        let name = FieldText(name)
        // An answer that nobody can read says nothing of the shadow.
        if name.equals("accept-encoding") { return true }
        // Beside the shadow's own key they are another account's.
        if hasOwnKey, name.equals("openai-organization") || name.equals("openai-project") {
            return true
        }
        if isEdited, Self.bodyFields.contains(where: name.equals) { return true }
        guard isTranslated else { return false }
        return name.equals("content-type") || Self.ownPrefixes.contains(where: name.hasPrefix)
    }

    private static let bodyFields: [StaticString] = [
        "content-md5", "digest", "content-digest", "repr-digest",
    ]
    private static let ownPrefixes: [StaticString] = ["anthropic-", "openai-", "x-stainless-"]

    /// Appends the field lines that the shadow's API wants of a translated request.
    func write(to writer: inout HeadWriter) {
        guard isTranslated else { return }
        writer.append("Content-Type: application/json\r\n")
        if asked == .messages { writer.append("anthropic-version: 2023-06-01\r\n") }
    }

    /// The path of a translated request: its end in the place of the client's, without the query.
    func path(_ path: UnsafeRawBufferPointer) -> (start: UnsafeRawBufferPointer, end: StaticString)?
    {
        guard isTranslated, let inference, let asked else { return nil }
        let plain = path.firstIndex(of: 0x3F) ?? path.count
        let kept = max(0, plain - inference.pathEnd.utf8CodeUnitCount)
        return (UnsafeRawBufferPointer(rebasing: path[..<kept]), asked.pathEnd)
    }
}
