"""One push as WeChat sends it, made by wechatpy; prints status and answer as JSON.

push.py --url URL --token TOKEN --app-id ID [--aes-key KEY] --openid ID KIND [VALUE]
KIND is subscribe, scan, unsubscribe, text or echo. What else there is makes a push that WeChat would not send.
"""

import argparse
import json
import random
import sys
import time

import requests
import xmltodict
from wechatpy import parse_message
from wechatpy.crypto import WeChatCrypto
from wechatpy.utils import WeChatSigner

ENVELOPE = """<xml><ToUserName><![CDATA[gh_lab]]></ToUserName>\
<FromUserName><![CDATA[{openid}]]></FromUserName><CreateTime>{created}</CreateTime>{rest}</xml>"""
EVENT = """<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[{event}]]></Event>\
<EventKey><![CDATA[{key}]]></EventKey><Ticket><![CDATA[TICKET]]></Ticket>"""
TEXT = """<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{value}]]></Content><MsgId>{id}</MsgId>"""


def message(args, created):
    """The push's XML, which wechatpy must take for what is meant."""
    if args.kind == "text":
        rest, expected = TEXT.format(value=args.value, id=random.getrandbits(60)), "text"
    elif args.kind == "subscribe":
        key = f"qrscene_{args.value}" if args.value else ""
        rest, expected = EVENT.format(event="subscribe", key=key), "subscribe_scan" if key else "subscribe"
    elif args.kind == "scan":
        rest, expected = EVENT.format(event="SCAN", key=args.value), "scan"
    else:
        rest, expected = EVENT.format(event="unsubscribe", key=""), "unsubscribe"
    xml = ENVELOPE.format(openid=args.openid, created=created, rest=rest)
    parsed = parse_message(xml)
    kind = parsed.event if parsed.type == "event" else parsed.type
    if kind != expected:
        sys.exit(f"wechatpy takes {xml} for {kind}, not {expected}")
    return xml


def sign(token, *parts):
    signer = WeChatSigner()
    signer.add_data(token, *parts)
    return signer.signature


def opened(crypto, body):
    """What is in a sealed answer; wechatpy checks its signature."""
    sealed = xmltodict.parse(body)["xml"]
    return crypto.decrypt_message(body, sealed["MsgSignature"], sealed["TimeStamp"], sealed["Nonce"])


def main():
    parser = argparse.ArgumentParser()
    for name in ("url", "token", "app-id", "aes-key", "openid", "nonce", "stamp", "created", "signature"):
        parser.add_argument(f"--{name}")
    parser.add_argument("kind", choices=("subscribe", "scan", "unsubscribe", "text", "echo"))
    parser.add_argument("value", nargs="?", default="")
    args = parser.parse_args()

    now = int(time.time())
    stamp = args.stamp or str(now)
    nonce = args.nonce or str(random.randrange(10**9, 10**10))
    query = {"signature": args.signature or sign(args.token, stamp, nonce), "timestamp": stamp, "nonce": nonce}
    if args.kind == "echo":
        reply = requests.get(args.url, params={**query, "echostr": args.value}, timeout=5)
        print(json.dumps({"status": reply.status_code, "text": reply.text}))
        return
    body = message(args, args.created or now)
    query["openid"] = args.openid
    crypto = WeChatCrypto(args.token, args.aes_key, args.app_id) if args.aes_key else None
    if crypto:
        body = crypto.encrypt_message(body, nonce, stamp)
        signature = args.signature or xmltodict.parse(body)["xml"]["MsgSignature"]
        query.update(encrypt_type="aes", msg_signature=signature)
    reply = requests.post(args.url, params=query, data=body.encode(), headers={"Content-Type": "text/xml"}, timeout=5)
    text = reply.text
    if reply.status_code == 200 and text != "success":
        answer = xmltodict.parse(opened(crypto, text) if crypto else text)["xml"]
        if (answer["ToUserName"], answer["FromUserName"], answer["MsgType"]) != (args.openid, "gh_lab", "text"):
            sys.exit(f"not an answer to this push: {answer}")
        text = answer["Content"]
    print(json.dumps({"status": reply.status_code, "text": text}))


main()
