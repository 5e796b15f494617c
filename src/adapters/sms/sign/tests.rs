use super::*;

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The signature in an `Authorization` header.
fn signature(authorization: &str) -> &str {
    authorization.rsplit_once("Signature=").unwrap().1
}

#[test]
fn acs3_is_as_alibaba_cloud_documents_it() {
    let image = "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd";
    let request = Request {
        query: &pairs(&[("RegionId", "cn-shanghai"), ("ImageId", image)]),
        headers: &[
            ("host", "ecs.cn-shanghai.aliyuncs.com"),
            ("x-acs-action", "RunInstances"),
            ("x-acs-content-sha256", EMPTY),
            ("x-acs-date", "2023-10-26T10:22:32Z"),
            ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
            ("x-acs-version", "2014-05-26"),
        ],
        body: "",
    };
    let canonical = "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259";
    assert_eq!(hash(&request.canonical()), canonical);
    assert_eq!(request.acs3_text(), format!("ACS3-HMAC-SHA256\n{canonical}"));
    assert_eq!(
        request.acs3("YourAccessKeyId", "YourAccessKeySecret"),
        "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;\
         x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,\
         Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    );
}

#[test]
fn tc3_is_as_tencent_cloud_documents_it() {
    let body =
        r#"{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}"#;
    let request = Request {
        query: "",
        headers: &[
            ("content-type", "application/json; charset=utf-8"),
            ("host", "cvm.tencentcloudapi.com"),
            ("x-tc-action", "describeinstances"),
        ],
        body,
    };
    assert_eq!(hash(body), "35e9c5b0e3ae67532d3c9f17ead6c90222632e5b1ff7f6e89887f1398934f064");
    let canonical = "7019a55be8395899b900fb5564e4200d984910f34794a27cb3fb7d10ff6a1e84";
    assert_eq!(hash(&request.canonical()), canonical);
    let at = WallTime(1_551_113_065_999);
    let scope = "2019-02-25/cvm/tc3_request";
    assert_eq!(
        request.tc3_text(scope, at),
        format!("TC3-HMAC-SHA256\n1551113065\n{scope}\n{canonical}")
    );
    let authorization = request.tc3("id", &"*".repeat(32), "cvm", at);
    assert!(authorization.starts_with(
        "TC3-HMAC-SHA256 Credential=id/2019-02-25/cvm/tc3_request, \
         SignedHeaders=content-type;host;x-tc-action, Signature="
    ));
    let expected = "10b1a37a7301a02ca19a647ad722d5e43b4b3cff309d421d85b46093f6ab6c4f";
    assert_eq!(signature(&authorization), expected);
}

/// What the provider's Python kit (alibabacloud-tea-openapi 0.4.6) sent for these values.
#[test]
fn acs3_is_as_the_providers_own_kit_signs() {
    let request = Request {
        query: &pairs(&[
            ("PhoneNumbers", "8613800138000"),
            ("SignName", "玉石 & 商场"),
            ("TemplateCode", "SMS_71390007"),
            ("TemplateParam", r#"{"code":"482913"}"#),
        ]),
        headers: &[
            ("accept", "application/json"),
            ("host", "127.0.0.1:18999"),
            ("user-agent", "AlibabaCloud (Linux; x86_64) Python/3.11.7 Core/0.4.3 TeaDSL/2"),
            ("x-acs-action", "SendSms"),
            ("x-acs-content-sha256", EMPTY),
            ("x-acs-credentials-provider", "static_ak"),
            ("x-acs-date", "2026-11-22T02:27:29Z"),
            ("x-acs-signature-nonce", "f44b215e374fbb5de56367792fa15edc"),
            ("x-acs-version", "2017-05-25"),
        ],
        body: "",
    };
    let expected = "ebabf4c68f0731ac60f486579de48357875049eae35b5b6cc31eefe4de863b65";
    assert_eq!(signature(&request.acs3("testId", "testSecret")), expected);
}

/// What the provider's Python kit (tencentcloud-sdk-python-common 3.1.195) sent for these values.
#[test]
fn tc3_is_as_the_providers_own_kit_signs() {
    let request = Request {
        query: "",
        headers: &[("content-type", "application/json"), ("host", "127.0.0.1:18999")],
        body: r#"{"PhoneNumberSet": ["+8613800138000"], "SmsSdkAppId": "1400006666", "TemplateId": "1110", "SignName": "\u7389\u77f3 & \u5546\u573a", "TemplateParamSet": ["482913", "5"]}"#,
    };
    let authorization = request.tc3("testId", "testSecret", "sms", WallTime(1_795_314_449_000));
    let expected = "01e2f7b7a853f8f713c96d83e260aa19616a62365570b05030fbab8e4201e775";
    assert_eq!(signature(&authorization), expected);
    assert!(authorization.contains("Credential=testId/2026-11-22/sms/tc3_request, "));
}

#[test]
fn pairs_are_sorted_and_leave_nothing_to_be_misread() {
    assert_eq!(pairs(&[("b", "&= +*~"), ("a", "京/-_.")]), "a=%E4%BA%AC%2F-_.&b=%26%3D%20%2B%2A~");
    assert_eq!(pairs(&[]), "");
}

#[test]
fn dates_are_utc() {
    assert_eq!(date_and_time(WallTime(1_698_315_752_999)), "2023-10-26T10:22:32Z");
    assert_eq!(date(WallTime(1_551_139_199_000)), "2019-02-25");
    assert_eq!(date(WallTime(1_551_139_200_000)), "2019-02-26");
}
