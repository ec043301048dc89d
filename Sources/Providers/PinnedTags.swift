/// What pins a service's answers where they do not say it themselves (`tags`): the revision of its
/// model, and the index that it reads. Empty where nothing is pinned.
public struct PinnedTags: Sendable, Equatable {
    /// `model_rev`.
    public var modelRevision = ""
    /// `index_hash`.
    public var indexHash = ""

    /// Nothing pinned.
    public init() {}

    /// These, and where they pin nothing, `other`.
    public func laid(over other: PinnedTags) -> PinnedTags {
        var tags = self
        if modelRevision.isEmpty { tags.modelRevision = other.modelRevision }
        if indexHash.isEmpty { tags.indexHash = other.indexHash }
        return tags
    }
}
