//! The messages that a client sends, from Google's discovery document of `v1beta`. Tables only.

use super::proto::Kind::{Any, Enum, Flag, Float, Int32, Int64, List, Map, Message as Of, Text};
use super::proto::Message;

/// The body of `:generateContent`, and the `request` of a row.
pub static GENERATE_CONTENT_REQUEST: Message = Message(&[
    ("model", Text),
    ("contents", List(&Of(&CONTENT))),
    ("systemInstruction", Of(&CONTENT)),
    ("generationConfig", Of(&GENERATION_CONFIG)),
    ("safetySettings", List(&Of(&SAFETY_SETTING))),
    ("tools", List(&Any)),
    ("toolConfig", Any),
    ("cachedContent", Text),
    ("serviceTier", Enum("ServiceTier", &["unspecified", "standard", "flex", "priority"])),
    ("store", Flag),
    ("labels", Map(&Text)),
]);

static CONTENT: Message = Message(&[("role", Text), ("parts", List(&Of(&PART)))]);

static PART: Message = Message(&[
    ("text", Text),
    ("thought", Flag),
    ("thoughtSignature", Text),
    ("inlineData", Of(&Message(&[("mimeType", Text), ("data", Text), ("displayName", Text)]))),
    ("fileData", Of(&Message(&[("mimeType", Text), ("fileUri", Text), ("displayName", Text)]))),
    ("functionCall", Any),
    ("functionResponse", Any),
    ("executableCode", Any),
    ("codeExecutionResult", Any),
    ("toolCall", Any),
    ("toolResponse", Any),
    ("videoMetadata", Any),
    ("mediaResolution", Any),
    ("partMetadata", Any),
]);

static SAFETY_SETTING: Message = Message(&[
    (
        "category",
        Enum(
            "HarmCategory",
            &[
                "HARM_CATEGORY_UNSPECIFIED",
                "HARM_CATEGORY_HARASSMENT",
                "HARM_CATEGORY_HATE_SPEECH",
                "HARM_CATEGORY_SEXUALLY_EXPLICIT",
                "HARM_CATEGORY_DANGEROUS_CONTENT",
                "HARM_CATEGORY_CIVIC_INTEGRITY",
            ],
        ),
    ),
    (
        "threshold",
        Enum(
            "SafetySetting.HarmBlockThreshold",
            &[
                "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
                "BLOCK_LOW_AND_ABOVE",
                "BLOCK_MEDIUM_AND_ABOVE",
                "BLOCK_ONLY_HIGH",
                "BLOCK_NONE",
                "OFF",
            ],
        ),
    ),
]);

static GENERATION_CONFIG: Message = Message(&[
    ("temperature", Float),
    ("topP", Float),
    ("topK", Int32),
    ("candidateCount", Int32),
    ("maxOutputTokens", Int32),
    ("stopSequences", List(&Text)),
    ("seed", Int32),
    ("presencePenalty", Float),
    ("frequencyPenalty", Float),
    ("responseLogprobs", Flag),
    ("logprobs", Int32),
    ("responseMimeType", Text),
    ("responseSchema", Of(&SCHEMA)),
    ("responseJsonSchema", Any),
    ("responseFormat", Of(&RESPONSE_FORMAT)),
    (
        "responseModalities",
        List(&Enum("GenerationConfig.Modality", &["MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO"])),
    ),
    ("thinkingConfig", Of(&THINKING_CONFIG)),
    (
        "mediaResolution",
        Enum(
            "GenerationConfig.MediaResolution",
            &[
                "MEDIA_RESOLUTION_UNSPECIFIED",
                "MEDIA_RESOLUTION_LOW",
                "MEDIA_RESOLUTION_MEDIUM",
                "MEDIA_RESOLUTION_HIGH",
                "MEDIA_RESOLUTION_ULTRA_HIGH",
            ],
        ),
    ),
    ("speechConfig", Any),
    ("imageConfig", Any),
    ("enableEnhancedCivicAnswers", Flag),
    ("audioTranscriptionConfig", Any),
]);

static THINKING_CONFIG: Message = Message(&[
    ("includeThoughts", Flag),
    ("thinkingBudget", Int32),
    (
        "thinkingLevel",
        Enum("ThinkingConfig.ThinkingLevel", &["THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH"]),
    ),
]);

/// Google's own guide writes `application/json` here, which the server refuses.
static RESPONSE_FORMAT: Message = Message(&[
    (
        "text",
        Of(&Message(&[
            (
                "mimeType",
                Enum("TextResponseFormat.MimeType", &["MIME_TYPE_UNSPECIFIED", "APPLICATION_JSON", "TEXT_PLAIN"]),
            ),
            ("schema", Any),
        ])),
    ),
    ("image", Any),
    ("audio", Any),
]);

/// The subset of OpenAPI that `responseSchema` takes.
pub static SCHEMA: Message = Message(&[
    ("type", Enum("Type", &["TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"])),
    ("format", Text),
    ("title", Text),
    ("description", Text),
    ("nullable", Flag),
    ("enum", List(&Text)),
    ("items", Of(&SCHEMA)),
    ("minItems", Int64),
    ("maxItems", Int64),
    ("properties", Map(&Of(&SCHEMA))),
    ("required", List(&Text)),
    ("propertyOrdering", List(&Text)),
    ("minProperties", Int64),
    ("maxProperties", Int64),
    ("minimum", Float),
    ("maximum", Float),
    ("minLength", Int64),
    ("maxLength", Int64),
    ("pattern", Text),
    ("example", Any),
    ("anyOf", List(&Of(&SCHEMA))),
    ("default", Any),
]);

/// The body of `:countTokens`.
pub static COUNT_TOKENS_REQUEST: Message = Message(&[
    ("model", Text),
    ("contents", List(&Of(&CONTENT))),
    ("generateContentRequest", Of(&GENERATE_CONTENT_REQUEST)),
]);

/// The body of `:batchGenerateContent`.
pub static BATCH_REQUEST: Message = Message(&[
    ("model", Text),
    (
        "batch",
        Of(&Message(&[
            ("name", Text),
            ("model", Text),
            ("displayName", Text),
            ("inputConfig", Of(&INPUT_CONFIG)),
            ("priority", Int64),
            ("webhookConfig", Any),
        ])),
    ),
]);

static INPUT_CONFIG: Message = Message(&[
    ("fileName", Text),
    (
        "requests",
        Of(&Message(&[(
            "requests",
            List(&Of(&Message(&[("request", Of(&GENERATE_CONTENT_REQUEST)), ("metadata", Map(&Any))]))),
        )])),
    ),
]);

/// One line of a batch file.
pub static LINE: Message =
    Message(&[("key", Text), ("request", Of(&GENERATE_CONTENT_REQUEST)), ("metadata", Map(&Any))]);

/// The body that starts an upload.
pub static UPLOAD_REQUEST: Message = Message(&[(
    "file",
    Of(&Message(&[("name", Text), ("displayName", Text), ("mimeType", Text), ("sizeBytes", Int64), ("source", Text)])),
)]);
